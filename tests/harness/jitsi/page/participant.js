// A participant in a Jitsi room with Jitsi's own client library, in the form that tests/e2e/browser/observe.mjs reads.
//
//   /ROOM?name=NAME[&media=all|audio|none][&codecs=H264,VP8][&height=360][&screen=RRGGBB][&p2p=1]
//
// codecs: the order of preference, for this participant's own picture; without it, the library's.
// p2p: two browsers that are alone in the room talk directly, without the bridge.

const query = new URLSearchParams(location.search);
// As Jitsi Meet makes a room of what is in its address.
const named = decodeURIComponent(location.pathname.slice(1)).normalize("NFKC").toLowerCase();
const roomName = encodeURIComponent(named).toLowerCase();
const height = Number(query.get("height") ?? 360);
// Jitsi Meet's page loads itself again, no sooner than this. A focus that is asked by HTTP while it has no
// connection to the XMPP server keeps a room that it never enters.
const COME_AGAIN_MS = 10_000;

// waiting: the names of those in the lobby; null while there is none.
window.smd = { state: "starting", error: null, room: roomName, waiting: null, connections };

const tiles = new Map();
const own = [];
const lobby = new Map();
let conference = null;
let leaving = false;
let shared = null;

function connections() {
  const sessions = [conference?.jvbJingleSession, conference?.p2pJingleSession];
  return sessions
    .map((session, index) => ({
      name: ["bridge", "direct"][index],
      connection: session?.peerconnection?.peerconnection,
    }))
    .filter(({ connection }) => connection);
}

function tileOf(id) {
  let tile = tiles.get(id);
  if (!tile) {
    tile = document.createElement("div");
    tile.className = "tile no-picture";
    const video = document.createElement("video");
    video.autoplay = true;
    video.playsInline = true;
    tile.append(video, document.createElement("span"));
    tiles.set(id, tile);
    document.getElementById("tiles").append(tile);
  }
  return tile;
}

// Everything that is shown follows from the library's facts at this moment: its events only say "look again".
function render() {
  const others = conference ? conference.getParticipants() : [];
  for (const [id, tile] of tiles) {
    if (!others.some((other) => other.getId() === id)) {
      tile.remove();
      tiles.delete(id);
    }
  }
  for (const other of others) {
    const tile = tileOf(other.getId());
    const tracks = other.getTracks();
    const pictures = tracks.filter((track) => track.getType() === "video" && !track.isMuted());
    const picture = pictures.find((track) => track.getVideoType() === "desktop") ?? pictures[0];
    const sound = tracks.find((track) => track.getType() === "audio");
    tile.dataset.participant = other.getDisplayName() || "Fellow Jitster";
    tile.dataset.muted = tracks.filter((track) => track.isMuted()).map((track) => track.getType()).join(" ");
    tile.querySelector("span").textContent = tile.dataset.participant;
    tile.classList.toggle("no-picture", !picture);
    show(tile.querySelector("video"), [sound, picture].filter(Boolean).map((track) => track.getTrack()));
  }
}

function show(video, tracks) {
  const shown = video.srcObject?.getTracks() ?? [];
  if (tracks.length !== shown.length || tracks.some((track) => !shown.includes(track))) {
    video.srcObject = new MediaStream(tracks);
  }
}

async function openDevices() {
  const devices = { all: ["audio", "video"], audio: ["audio"], none: [] }[query.get("media") ?? "all"];
  if (devices.length > 0) {
    const video = { width: { ideal: (height * 16) / 9 }, height: { ideal: height }, frameRate: { max: 15 } };
    own.push(...(await JitsiMeetJS.createLocalTracks({ devices, resolution: height, constraints: { video } })));
  }
}

function join() {
  const codecs = query.get("codecs")?.split(",");
  const options = {
    ...config,
    serviceUrl: `${config.websocket}?room=${encodeURIComponent(roomName)}`,
    p2p: { ...config.p2p, enabled: query.get("p2p") === "1" },
    ...(codecs && { videoQuality: { codecPreferenceOrder: codecs, enableAdaptiveMode: false } }),
  };
  const connection = new JitsiMeetJS.JitsiConnection(null, null, options);
  const events = JitsiMeetJS.events.connection;
  const lost = (reason) => {
    if (smd.state !== "lost" && smd.state !== "kicked" && !leaving) {
      smd.state = "lost";
      smd.error = String(reason);
      conference = null;
      render();
      setTimeout(join, COME_AGAIN_MS);
    }
  };
  connection.addEventListener(events.CONNECTION_FAILED, lost);
  connection.addEventListener(events.CONNECTION_DISCONNECTED, lost);
  connection.addEventListener(events.CONNECTION_ESTABLISHED, () => enter(connection, options));
  connection.connect();
}

function enter(connection, options) {
  const events = JitsiMeetJS.events.conference;
  const room = connection.initJitsiConference(roomName, options);
  room.on(events.CONFERENCE_JOINED, () => {
    conference = room;
    smd.state = "joined";
    smd.error = null;
  });
  room.on(events.CONFERENCE_FAILED, (...reason) => {
    smd.error = reason.join(" "); // it may go on: without a bridge, the focus waits for one
  });
  room.on(events.KICKED, () => {
    smd.state = "kicked";
  });
  room.on(events.DOMINANT_SPEAKER_CHANGED, (speaker) => {
    for (const [id, tile] of tiles) {
      tile.classList.toggle("speaking", id === speaker);
    }
  });
  for (const name of ["USER_JOINED", "USER_LEFT", "DISPLAY_NAME_CHANGED", "TRACK_ADDED", "TRACK_REMOVED"]) {
    room.on(events[name], render);
  }
  room.on(events.TRACK_MUTE_CHANGED, render);
  const waits = (id, name) => {
    lobby.set(id, name);
    smd.waiting = [...lobby.values()];
  };
  room.on(events.LOBBY_USER_JOINED, waits);
  room.on(events.LOBBY_USER_UPDATED, (id, who) => waits(id, who.displayName ?? lobby.get(id)));
  room.on(events.LOBBY_USER_LEFT, (id) => {
    lobby.delete(id);
    smd.waiting = [...lobby.values()];
  });
  own.forEach((track) => room.addTrack(track));
  room.setDisplayName(query.get("name") ?? "Browser");
  room.setReceiverConstraints({ lastN: -1, defaultConstraints: { maxHeight: 720 } });
  room.join();
}

const toggle = (kind) => {
  const track = own.find((one) => one.getType() === kind && one.getVideoType() !== "desktop");
  return track.isMuted() ? track.unmute() : track.mute();
};

async function share() {
  if (shared) {
    const track = shared;
    shared = null;
    await conference.removeTrack(track);
    own.splice(own.indexOf(track), 1);
    await track.dispose();
    return;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [1280, 720];
  const context = canvas.getContext("2d");
  let drawn = 0;
  setInterval(() => {
    context.fillStyle = `#${query.get("screen") ?? "00a0a0"}`;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#000000";
    context.fillRect((drawn * 20) % canvas.width, canvas.height - 10, 10, 10);
    drawn += 1;
  }, 100);
  const stream = canvas.captureStream(10);
  const [track] = stream.getVideoTracks();
  [shared] = JitsiMeetJS.createLocalTracksFromMediaStreams([
    { stream, track, sourceType: "canvas", mediaType: "video", videoType: "desktop" },
  ]);
  own.push(shared);
  await conference.addTrack(shared);
}

const actions = {
  microphone: () => toggle("audio"),
  camera: () => toggle("video"),
  share,
  mute: () => conference.getParticipants().forEach((other) => conference.muteParticipant(other.getId(), "audio")),
  kick: () => conference.getParticipants().forEach((other) => conference.kickParticipant(other.getId())),
  lobby: async () => {
    await conference.enableLobby();
    smd.waiting = [];
  },
  admit: () => [...lobby.keys()].forEach((id) => conference.lobbyApproveAccess(id)),
  refuse: () => [...lobby.keys()].forEach((id) => conference.lobbyDenyAccess(id)),
  leave: () => {
    leaving = true;
    smd.state = "left";
    return conference?.leave();
  },
};
for (const [name, action] of Object.entries(actions)) {
  document.getElementById(name).addEventListener("click", () => {
    Promise.resolve()
      .then(action)
      .catch((error) => console.error(`${name}: ${error?.message ?? error}`));
  });
}

JitsiMeetJS.setLogLevel(JitsiMeetJS.logLevels.ERROR);
JitsiMeetJS.init({
  disableAP: true, // it takes a steady tone for noise
  disableAudioLevels: true,
  disableThirdPartyRequests: true,
  enableAnalyticsLogging: false,
});
setInterval(render, 250);
openDevices()
  .then(join)
  .catch((error) => {
    smd.state = "failed";
    smd.error = error?.message ?? String(error);
  });
