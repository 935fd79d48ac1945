"""From the text of a log line to numbers: finding lines, reading timestamps, turning rates into tokens."""
