"""Looking into footage: a confined child process that parses, and what hands it bytes."""
