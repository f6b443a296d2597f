"""How large a text may be. Beyond these sizes a file is a mistake, and it gets a clear error."""

MAX_BYTES = 1_000_000
MAX_BRACKETS = 50
MAX_REPEATS = 8
MAX_OPERATIONS = 100
MAX_NUMBER_LENGTH = 30
MAX_NUMBER_EXPONENT = 300
MAX_NAME_LENGTH = 80
