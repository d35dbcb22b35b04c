"""Puts all mutants of a source file into it at once, each behind a switch that is off.

Building a crate anew for each mutant takes most of the time of mutation testing. Here every changed expression stands
beside the one it replaces, `if mutation_switch::is(17) { a - b } else { a + b }`, so that one build serves all: the number
of the mutant that is on comes from the environment when a test program starts. What cannot be written like that (a field
left out of a struct, say) or does not compile is left to `cargo mutants`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import tree_sitter_rust
from tree_sitter import Language, Node, Parser

PARSER = Parser(Language(tree_sitter_rust.language()))
COMPARISONS = {"==", "!=", "<", "<=", ">", ">="}
LOGICAL = {"&&", "||"}
MARK = re.compile(r"/\*([MW])(\d+)([{}])\*/")

# A crate that tells a const fn run by the compiler (no mutant is on) from one run by a test.
SWITCH = """#![feature(core_intrinsics, const_eval_select)]
#![allow(internal_features, missing_docs)]

use std::sync::LazyLock;

static ON: LazyLock<u32> = LazyLock::new(|| {
    std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0)
});

#[inline]
pub const fn is(number: u32) -> bool {
    core::intrinsics::const_eval_select((number,), never, now)
}

const fn never(_: u32) -> bool {
    false
}

#[inline]
fn now(number: u32) -> bool {
    *ON == number
}
"""


@dataclass
class Mutant:
    """One line of what `cargo mutants --list` plans, and its number."""

    number: int
    name: str
    file: str
    genre: str
    replacement: str
    start: tuple[int, int]
    end: tuple[int, int]

    @classmethod
    def from_listed(cls, number: int, listed: dict) -> "Mutant":
        start, end = ((at["line"], at["column"]) for at in (listed["span"]["start"], listed["span"]["end"]))
        return cls(number, listed["name"], listed["file"], listed["genre"], listed["replacement"], start, end)


@dataclass
class Place:
    """A syntax node with the mutants that change it."""

    node: Node
    mutants: list[Mutant] = field(default_factory=list)


class File:
    """A source file and what is left of its mutants: those whose switch compiles."""

    def __init__(self, text: str, mutants: list[Mutant]) -> None:
        self.source = text.encode()
        self.starts = line_starts(text)
        self.lines = text.split("\n")
        self.tree = PARSER.parse(self.source)
        self.by_value: set[int] = set()
        self.left_out: set[int] = set()
        self.places: dict[int, Place] = {}
        # In a const fn: the compiler may have run what a test asks about.
        self.constant: set[int] = set()
        for mutant in mutants:
            node = self.node_of(mutant)
            if node is None:
                self.left_out.add(mutant.number)
            else:
                self.places.setdefault(node.id, Place(node)).mutants.append(mutant)
                if is_constant(node):
                    self.constant.add(mutant.number)

    def node_of(self, mutant: Mutant) -> Node | None:
        """The node that a switch is put around."""
        first, last = self.offset(mutant.start), self.offset(mutant.end)
        node = self.tree.root_node.descendant_for_byte_range(first, last)
        if mutant.genre == "FnValue":
            while node is not None and node.type != "function_item":
                node = node.parent
            return node.child_by_field_name("body") if node is not None else None
        wanted = {
            "BinaryOperator": ("binary_expression", "compound_assignment_expr"),
            "UnaryOperator": ("unary_expression",),
            "MatchArm": ("match_arm",),
        }
        if mutant.genre == "MatchArmGuard":
            while node is not None and node.parent is not None and node.parent.type != "match_pattern":
                node = node.parent
            return node if node is not None and node.start_byte == first and node.parent is not None else None
        while node is not None and node.type not in wanted.get(mutant.genre, ()):
            if node.type in ("block", "source_file"):
                return None
            node = node.parent
        return node

    def offset(self, position: tuple[int, int]) -> int:
        """Lines and columns are counted from 1, columns in characters."""
        line, column = position
        return self.starts[line - 1] + len(self.lines[line - 1][: column - 1].encode())

    def refuse(self, text: str, first: int, last: int) -> bool:
        """Takes back what the compiler refused between two bytes of a text that was made of this file."""
        inside, innermost = [], None
        for mark, start, end in marks(text):
            if start <= first and last <= end and (innermost is None or end - start < innermost[1]):
                innermost = (mark, end - start)
            elif first <= start and end <= last:
                inside.append(mark)
        refused = [innermost[0]] if innermost else inside
        for kind, number in refused:
            if kind == "M":
                self.left_out.add(number)
            elif self.is_comparison(number) and number not in self.by_value:
                self.by_value.add(number)
            else:
                self.left_out |= {mutant.number for mutant in self.places[number].mutants}
        return bool(refused)

    def refuse_arms(self, text: str, first: int, last: int) -> bool:
        """Takes back the arms left out of a match, one of which may have been needed for it to be exhaustive."""
        node = PARSER.parse(text.encode()).root_node.descendant_for_byte_range(first, last)
        while node is not None and node.type != "match_expression":
            node = node.parent
        if node is None:
            return False
        arms = {m.number for place in self.places.values() for m in place.mutants if m.genre == "MatchArm"}
        inside = {number for (_, number), start, end in marks(text) if node.start_byte <= start and end <= node.end_byte}
        self.left_out |= arms & inside
        return bool(arms & inside)

    def is_comparison(self, place: int) -> bool:
        node = self.places[place].node
        return node.type == "binary_expression" and self.sign(node) in COMPARISONS

    def text(self) -> str:
        return self.render(self.tree.root_node)

    def render(self, node: Node) -> str:
        place = self.places.get(node.id)
        mutants = [mutant for mutant in place.mutants if mutant.number not in self.left_out] if place else []
        if not mutants:
            return self.plain(node)
        inner = {
            "block": self.body,
            "binary_expression": self.binary,
            "compound_assignment_expr": self.assignment,
            "unary_expression": self.unary,
            "match_arm": self.arm,
        }.get(node.type, self.guard)
        if mutants[0].genre == "MatchArmGuard":
            inner = self.guard
        return inner(node, mutants)

    def plain(self, node: Node) -> str:
        """The node with its children rendered and all between them as it is."""
        parts, at = [], node.start_byte
        for child in node.children:
            parts.append(self.source[at : child.start_byte].decode())
            parts.append(self.render(child))
            at = child.end_byte
        parts.append(self.source[at : node.end_byte].decode())
        return "".join(parts)

    def child(self, node: Node, name: str) -> str:
        found = node.child_by_field_name(name)
        assert found is not None, (name, node)
        return self.render(found)

    def body(self, node: Node, mutants: list[Mutant]) -> str:
        early = "".join(marked(f"M{m.number}", f"if {on(m)} {{ return {m.replacement}; }}") for m in mutants)
        return "{" + early + self.plain(node)[1:]

    def binary(self, node: Node, mutants: list[Mutant]) -> str:
        left, right = self.child(node, "left"), self.child(node, "right")
        sign = self.sign(node)
        signs = {sign, *(m.replacement for m in mutants)}
        if signs <= LOGICAL:
            return wrap(node, f"{{ let __l = {left}; {cases(mutants, lambda s: f'__l {s} ({right})', sign)} }}")
        if signs <= COMPARISONS and node.id not in self.by_value:
            inner = cases(mutants, lambda s: f"*__l {s} *__r", sign)
            return wrap(node, f"match (&({left}), &({right})) {{ (__l, __r) => {{ {inner} }} }}")
        inner = cases(mutants, lambda s: f"__l {s} __r", sign)
        return wrap(node, f"match ({left}, {right}) {{ (__l, __r) => {{ {inner} }} }}")

    def sign(self, node: Node) -> str:
        operator = node.child_by_field_name("operator")
        assert operator is not None, node
        return operator.type

    def assignment(self, node: Node, mutants: list[Mutant]) -> str:
        left, right = self.child(node, "left"), self.child(node, "right")
        return wrap(node, f"{{ {cases(mutants, lambda s: f'{left} {s} {right}', self.sign(node))} }}")

    def unary(self, node: Node, mutants: list[Mutant]) -> str:
        sign, operand = node.children[0].type, self.render(node.children[-1])
        return wrap(node, f"{{ let __x = {operand}; {cases(mutants, lambda s: f'{s}__x', sign)} }}")

    def guard(self, node: Node, mutants: list[Mutant]) -> str:
        # A guard that is a negation has two kinds of mutants: another guard, and the negation left out, which says nothing.
        operand = self.render(node.children[-1]) if node.type == "unary_expression" else ""
        return wrap(node, f"{{ {cases(mutants, lambda s: self.plain(node) if s == '=' else s or operand, '=')} }}")

    def arm(self, node: Node, mutants: list[Mutant]) -> str:
        pattern = node.child_by_field_name("pattern")
        assert pattern is not None and len(mutants) == 1
        off = marked(f"M{mutants[0].number}", f"!{on(mutants[0])}")
        condition = pattern.child_by_field_name("condition")
        if condition is None:
            guarded = f"{self.plain(pattern)} if {off}"
        else:
            head = self.source[pattern.start_byte : condition.start_byte].decode()
            guarded = f"{head} {off} && ({self.render(condition)})"
        before, after, at = self.source[node.start_byte : pattern.start_byte].decode(), [], pattern.end_byte
        for child in node.children:
            if child.start_byte >= pattern.end_byte:
                after += [self.source[at : child.start_byte].decode(), self.render(child)]
                at = child.end_byte
        return before + guarded + "".join(after)


def cases(mutants: list[Mutant], use: Callable[[str], str], sign: str) -> str:
    """What each mutant says, and what the source says."""
    changed = "".join(marked(f"M{m.number}", f"if {on(m)} {{ {use(m.replacement)} }}") + " else " for m in mutants)
    return f"{changed} {{ {use(sign)} }}"


def on(mutant: Mutant) -> str:
    return f"::mutation_switch::is({mutant.number})"


def wrap(node: Node, text: str) -> str:
    return "(" + marked(f"W{node.id}", text) + ")"


def marked(mark: str, text: str) -> str:
    """With comments around it that say where an error of the compiler belongs."""
    return f"/*{mark}{{*/ {text} /*{mark}}}*/"


def marks(text: str) -> Iterator[tuple[tuple[str, int], int, int]]:
    """What is marked in a text: kind and number, first and last byte."""
    open_marks: dict[tuple[str, int], list[int]] = {}
    shift, at = 0, 0
    for found in MARK.finditer(text):
        shift += len(text[at : found.start()].encode())
        at, mark = found.start(), (found[1], int(found[2]))
        if found[3] == "{":
            open_marks.setdefault(mark, []).append(shift)
        else:
            yield mark, open_marks[mark].pop(), shift


def is_constant(node: Node | None) -> bool:
    while node is not None and node.type != "function_item":
        # A constant or the length of an array, in a function that need not be const itself.
        above = node.parent
        is_length = above is not None and above.type == "array_expression" and above.child_by_field_name("length") == node
        if is_length or node.type == "const_item":
            return True
        node = above
    modifiers = [child for child in node.children if child.type == "function_modifiers"] if node else []
    return node is None or any(b"const" in (modifier.text or b"") for modifier in modifiers)


def line_starts(text: str) -> list[int]:
    starts, at = [], 0
    for line in text.split("\n"):
        starts.append(at)
        at += len(line.encode()) + 1
    return starts
