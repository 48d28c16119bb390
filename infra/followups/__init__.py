"""What is still to be done for an order, so that nothing depends on a message."""
