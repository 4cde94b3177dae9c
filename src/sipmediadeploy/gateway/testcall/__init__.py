"""A SIP test terminal: it places a real call with picture and sound and says what came back."""
