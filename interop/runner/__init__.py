"""Parts of `interop/run.py`."""
