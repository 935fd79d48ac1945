"""Access control: who a client is, what it may do, how often, and what the audit log keeps of it."""
