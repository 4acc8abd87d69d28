"""The command line: parse arguments, call one op, render its result. Owns the environment, exit codes, colour and JSON."""
