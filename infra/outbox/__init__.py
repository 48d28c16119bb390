"""Facts that leave: domain events, committed with what they tell, published by a relay."""
