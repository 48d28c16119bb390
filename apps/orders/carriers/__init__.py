"""Carriers behind one interface."""
