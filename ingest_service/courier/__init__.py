"""What is carried to others: requests to addresses that strangers have named."""
