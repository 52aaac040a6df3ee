"""What is offered: requests by their lengths, classes and times, from traces or from chance."""
