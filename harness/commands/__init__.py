"""One module a verb: from words on the command line to what is done and printed."""
