"""What every API endpoint shares: problem answers, strict input, cursors, the schema's conventions."""
