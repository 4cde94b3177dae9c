// The page: https://ADDRESS/ROOM?name=NAME[&media=all|audio|none][&processing=off]
// `window.smd` tells tests and the curious what is going on.

import { capture } from "./media.js";
import { Room } from "./room.js";
import { addTile, playAll, removeAllTiles, removeTile, setPicture, setSpeaking, setTrack } from "./tiles.js";

const RETRY_MS = [500, 1000, 2000, 4000];
const SELF = "self";
const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

const smd = {
  state: "idle", // idle, joining, joined, reconnecting, left, failed
  room: "",
  name: "",
  error: "",
  speaking: [],
  participants: [], // names of the others
  connections: () => stay?.connections() ?? [],
};
window.smd = smd;

let stay = null;
let tracks = [];
let retries = 0;
let everJoined = false;
const names = new Map();

function setState(state, text) {
  smd.state = state;
  document.body.dataset.state = state;
  $("status").textContent = text;
}

function setError(text) {
  smd.error = text;
  $("error").textContent = text;
  $("error").hidden = text === "";
}

function enter() {
  removeAllTiles();
  names.clear();
  smd.participants = [];
  smd.speaking = [];
  const server = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/janus`;
  stay = new Room(server, smd.room, smd.name, tracks, {
    joined() {
      everJoined = true;
      retries = 0;
      setState("joined", "Connected");
      if (smd.error.startsWith("The conn") || smd.error.startsWith("The conf")) {
        setError("");
      }
      showSelf();
    },
    arrived(feed, name) {
      names.set(feed, name);
      smd.participants = [...names.values()];
      addTile(feed, name);
    },
    left(feed) {
      names.delete(feed);
      smd.participants = [...names.values()];
      smd.speaking = smd.speaking.filter((other) => other !== feed);
      removeTile(feed);
    },
    async track(feed, track, on) {
      const heard = await setTrack(feed, track, on);
      $("hear").hidden &&= heard;
    },
    speaking(feed, yes) {
      smd.speaking = smd.speaking.filter((other) => other !== feed).concat(yes ? [feed] : []);
      setSpeaking(feed === stay.own ? SELF : feed, yes);
    },
    ended: onEnded,
  });
  stay.enter();
}

function onEnded(reason) {
  removeAllTiles();
  setError(reason);
  const final = /removed|closed|refused|can't be made/.test(reason);
  if (final || retries >= 30) {
    setState("failed", "Not connected");
    return;
  }
  setState("reconnecting", everJoined ? "Reconnecting…" : "Connecting…");
  setTimeout(() => smd.state === "reconnecting" && enter(), RETRY_MS[Math.min(retries, RETRY_MS.length - 1)]);
  retries += 1;
}

function showSelf() {
  if (tracks.length === 0) {
    return;
  }
  addTile(SELF, smd.name, { self: true });
  const video = tracks.find(({ kind }) => kind === "video");
  if (video) {
    setTrack(SELF, video, true);
    setPicture(SELF, video.enabled);
  }
}

function toggle(button, kind, label) {
  const track = tracks.find((candidate) => candidate.kind === kind);
  button.hidden = !track;
  button.addEventListener("click", () => {
    track.enabled = !track.enabled;
    button.setAttribute("aria-pressed", String(track.enabled));
    button.textContent = `${label} ${track.enabled ? "on" : "off"}`;
    if (kind === "video") {
      setPicture(SELF, track.enabled);
    }
  });
}

function leave() {
  stay?.leave();
  tracks.forEach((track) => track.stop());
  removeAllTiles();
  $("controls").hidden = true;
  setError("");
  setState("left", "You have left the room");
}

async function start(room, name) {
  smd.room = room.toLowerCase();
  smd.name = name;
  $("room").textContent = smd.room;
  document.title = `${smd.room} · Conference`;
  $("entrance").hidden = true;
  setState("joining", "Connecting…");
  const got = await capture(query.get("media") ?? "all", query.get("processing") !== "off");
  tracks = got.tracks;
  setError(got.problem);
  toggle($("microphone"), "audio", "Microphone");
  toggle($("camera"), "video", "Camera");
  $("controls").hidden = false;
  enter();
}

function main() {
  let room = "";
  try {
    room = decodeURIComponent(location.pathname.slice(1));
  } catch {
    setError("This address names no room: it is not valid UTF-8.");
  }
  const name = (query.get("name") ?? "").trim().slice(0, 64);
  $("leave").addEventListener("click", leave);
  $("hear").addEventListener("click", async () => {
    await playAll();
    $("hear").hidden = true;
  });
  window.addEventListener("pagehide", () => stay?.leave());
  $("room-field").value = room;
  $("name-field").value = name;
  if (room && name && $("room-field").checkValidity()) {
    start(room, name);
    return;
  }
  $("room").textContent = room;
  $("entrance").hidden = false;
  (room ? $("name-field") : $("room-field")).focus();
  $("entrance").addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = $("room-field").value;
    query.set("name", $("name-field").value.trim());
    history.replaceState(null, "", `/${encodeURIComponent(chosen)}?${query}`);
    start(chosen, query.get("name"));
  });
}

main();
