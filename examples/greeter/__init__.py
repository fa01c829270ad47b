"""The service `greeter`: as little as a service can be."""
