"""What the tests stand on: real servers, waiting without sleeping, and the model of the task protocol."""
