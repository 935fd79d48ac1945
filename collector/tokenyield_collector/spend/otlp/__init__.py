"""What senders of OpenTelemetry report of tokens: OTLP requests become points, and the points of a day slices. Pure."""
