"""Pure-torch references: the readable formula of every op, and what runs where nothing native is registered."""
