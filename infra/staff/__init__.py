"""What the staff's pages share: who may open which, what is asked twice, what is logged, how long a session lasts."""
