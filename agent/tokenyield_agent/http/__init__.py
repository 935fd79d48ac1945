"""HTTP exchanges with servers that are not trusted: one deadline for the whole of it, a bound on every byte."""
