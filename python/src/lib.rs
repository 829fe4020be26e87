//! The Python code that pyexec brings along, as constants, and pure readers of what Python programs consist of.
