"""What the whole pipeline means by its words: enums, errors, structs, fixed point, instruments, configuration."""
