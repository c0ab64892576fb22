"""Classical codecs, bounds and recorded outputs: what every table is read against."""
