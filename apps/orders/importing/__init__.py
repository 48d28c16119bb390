"""Import of past orders from the file of a shop's invoices: parse, classify, load."""
