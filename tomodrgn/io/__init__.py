"""Files: bytes to tables and arrays; knows formats, not meanings."""
