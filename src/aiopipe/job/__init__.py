"""A run as a job: what it counted, what it set aside, how it ends."""
