"""What programs ask on behalf of people: the Model Context Protocol, and read-only tools over the views of the API."""
