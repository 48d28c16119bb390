"""Ways to send a code or a notice to the owner of an e-mail address or phone (setting `CODE_SENDER`)."""
