"""A development CA and the command that serves it; how long a certificate still holds."""
