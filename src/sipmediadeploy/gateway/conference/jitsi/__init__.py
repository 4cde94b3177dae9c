"""The Jitsi Meet driver: XMPP, Jingle and the bridge channel, spoken natively."""
