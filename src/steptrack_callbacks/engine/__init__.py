"""May a call go, and what is it charged: accounts and calls, never a step or an integration."""
