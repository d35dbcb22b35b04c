"""Child processes that are waited for, bounded in time and ended by their own id."""

import queue
import subprocess
import threading
import time

# The longest wait for anything: a case that needs it has failed.
PATIENCE = 20.0


class Failure(Exception):
    """What a case expected did not happen."""


class Refused(Failure):
    """A client says that it was not let in, or does not trust the broker."""


class Process:
    """A child process whose lines of output are collected as they come."""

    def __init__(self, command, stdin=False):
        self.command = [str(part) for part in command]
        try:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise Failure(f"{self.command[0]} does not start: {error}") from error
        self._lines = queue.Queue()
        self.seen = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._child.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def is_running(self):
        return self._child.poll() is None

    def write_line(self, text):
        try:
            self._child.stdin.write(text + "\n")
            self._child.stdin.flush()
        except (BrokenPipeError, OSError) as error:
            raise Failure(f"{self.command[0]} does not listen: {error}\n{self.tail()}") from error

    def line(self, deadline):
        """The next line, or None when the output has ended."""
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise Failure(f"{self.command[0]} said nothing more in {PATIENCE:.0f} s\n{self.tail()}") from None
        if line is not None:
            self.seen.append(line)
        return line

    def line_where(self, wanted):
        """The first line that `wanted` accepts; earlier ones are passed over."""
        deadline = time.monotonic() + PATIENCE
        while (line := self.line(deadline)) is not None:
            if wanted(line):
                return line
        raise Failure(f"{self.command[0]} ended early\n{self.tail()}")

    def wait(self):
        """Waits for the end and returns the exit status."""
        try:
            return self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.command[0]} did not end in {PATIENCE:.0f} s\n{self.tail()}") from None

    def signal(self, number):
        if self.is_running():
            self._child.send_signal(number)

    def kill(self):
        """Ends the process at once; it says no goodbye."""
        self._child.kill()
        self._child.wait()

    def tail(self):
        return "\n".join(line[:200] for line in self.seen[-8:])
