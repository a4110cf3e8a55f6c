"""What is optimised: the table of algorithms, credit, losses, and the objective as a formula."""
