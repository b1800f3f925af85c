"""Units of speech: phones with their positions and stresses, and the pronunciations of words."""
