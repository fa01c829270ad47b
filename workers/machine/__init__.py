"""The partition machine: commands in, events and answers out. Pure and synchronous."""
