"""What a value may be: said once, in the annotated signature that uses it; imports nothing heavy."""
