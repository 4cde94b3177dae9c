"""A session-initiate as the focus sends it, and an answer as the media worker gives it."""

TCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
FINGERPRINT = ":".join(["A1"] * 32)

TRANSPORT = f"""
<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='ab12' pwd='secretpassword'><rtcp-mux/>
<web-socket xmlns='http://jitsi.org/protocol/colibri' url='wss://jvb.example.org/colibri-ws/jvb1/c1/e1?pwd=x'/>
<fingerprint xmlns='urn:xmpp:jingle:apps:dtls:0' hash='sha-256' setup='actpass' required='false'>{FINGERPRINT}
</fingerprint>
<candidate foundation='1' component='1' protocol='udp' priority='2130706431' ip='198.51.100.7' port='10000'
 type='host' generation='0' network='0' id='a1'/>
<candidate foundation='2' component='1' protocol='udp' priority='1694498815' ip='203.0.113.9' port='10000'
 type='srflx' generation='0' network='0' id='a2' rel-addr='198.51.100.7' rel-port='10000'/>
<candidate foundation='3' component='1' protocol='tcp' priority='1694498815' ip='203.0.113.9' port='4443'
 type='host' generation='0' network='0' id='a3'/>
</transport>"""

FB = "xmlns='urn:xmpp:jingle:apps:rtp:rtcp-fb:0'"
EXT = "xmlns='urn:xmpp:jingle:apps:rtp:rtp-hdrext:0'"

INITIATE = f"""
<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='s1' initiator='focus@auth.example.org/focus'>
<content creator='initiator' name='audio' senders='both'>
<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='audio' maxptime='60'>
<payload-type id='111' name='opus' clockrate='48000' channels='2'><parameter name='minptime' value='10'/>
<parameter name='useinbandfec' value='1'/><rtcp-fb {FB} type='transport-cc'/></payload-type>
<payload-type id='126' name='telephone-event' clockrate='8000'/>
<rtp-hdrext {EXT} id='1' uri='{LEVEL}'/><rtp-hdrext {EXT} id='5' uri='{TCC}'/>
<source xmlns='urn:xmpp:jingle:apps:rtp:ssma:0' ssrc='77' name='jvb-a0'>
<ssrc-info xmlns='http://jitsi.org/jitmeet' owner='jvb'/></source><rtcp-mux/></description>
{TRANSPORT}</content>
<content creator='initiator' name='video' senders='both'>
<description xmlns='urn:xmpp:jingle:apps:rtp:1' media='video'>
<payload-type id='100' name='VP8' clockrate='90000'><rtcp-fb {FB} type='nack' subtype='pli'/></payload-type>
<payload-type id='107' name='H264' clockrate='90000'>
<parameter name='profile-level-id' value='42e01f;level-asymmetry-allowed=1;packetization-mode=1;'/>
<rtcp-fb {FB} type='ccm' subtype='fir'/><rtcp-fb {FB} type='nack'/><rtcp-fb {FB} type='nack' subtype='pli'/>
<rtcp-fb {FB} type='transport-cc'/></payload-type>
<payload-type id='99' name='rtx' clockrate='90000'><parameter name='apt' value='107'/></payload-type>
<payload-type id='96' name='rtx' clockrate='90000'><parameter name='apt' value='100'/></payload-type>
<rtp-hdrext {EXT} id='11' uri='https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor'/>
<rtp-hdrext {EXT} id='5' uri='{TCC}'/><rtcp-mux/></description>{TRANSPORT}</content>
<group xmlns='urn:xmpp:jingle:apps:grouping:0' semantics='BUNDLE'><content name='audio'/>
<content name='video'/></group>
<bridge-session xmlns='http://jitsi.org/protocol/focus' id='b1' region='here'/></jingle>"""

ANSWER = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE audio video",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:me",
        "a=ice-pwd:mypassword",
        "a=mid:audio",
        "a=rtcp-mux",
        "a=setup:passive",
        "a=rtpmap:111 OPUS/48000/2",
        "a=fmtp:111 useinbandfec=1",
        f"a=extmap:1 {LEVEL}",
        "a=ssrc:1111 cname:c",
        "a=ssrc:1111 msid:x y",
        "a=sendrecv",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=candidate:1 1 UDP 2015363327 192.0.2.1 40000 typ host",
        "a=candidate:2 1 UDP 1677722111 198.51.100.9 40001 typ srflx raddr 192.0.2.1 rport 40000",
        "a=end-of-candidates",
        "m=video 0 UDP/TLS/RTP/SAVPF 107 99",
        "c=IN IP4 0.0.0.0",
        "a=bundle-only",
        "a=ice-ufrag:me",
        "a=ice-pwd:mypassword",
        "a=mid:video",
        "a=setup:passive",
        "a=rtpmap:107 H264/90000",
        "a=rtcp-fb:107 nack pli",
        "a=rtcp-fb:107 nack",
        "a=fmtp:107 packetization-mode=1;profile-level-id=42e01f;sprop-parameter-sets=Z0LAH9oB,aM48gA==",
        "a=rtpmap:99 rtx/90000",
        "a=fmtp:99 apt=107",
        "a=ssrc-group:FID 2222 3333",
        "a=ssrc:2222 cname:c",
        "a=ssrc:3333 cname:c",
        "a=sendrecv",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "",
    ]
)
