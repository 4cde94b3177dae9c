/* What a Jitsi Meet deployment tells its clients, with the keys that Jitsi's package has. */
var subdomain = '';
var config = {
    hosts: {
        domain: 'meet.test',
        muc: 'conference.' + subdomain + 'meet.test',
    },
    focusUserJid: 'focus@auth.meet.test',
    websocket: 'wss://$site/' + subdomain + 'xmpp-websocket',
    conferenceRequestUrl: 'https://$site/' + subdomain + 'conference-request/v1',
    enableWebsocketResume: false, // stock Prosody forgets anonymous users
    websocketKeepAlive: -1,
    p2p: { enabled: true },
    disableAudioLevels: true,
    disableThirdPartyRequests: true,
};
