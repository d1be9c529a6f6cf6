"""Tables, figures, the HTML page and the README of a bench, made from its statistics."""
