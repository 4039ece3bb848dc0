"""Pure decisions: no I/O, no clock; what they need comes in, what is to be done goes out."""
