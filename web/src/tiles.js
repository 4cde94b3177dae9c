// The participants as tiles. A tile is <li class="tile" data-participant=NAME data-feed=ID>.

const list = document.getElementById("tiles");
const alone = document.getElementById("alone");
const tiles = new Map();

function initials(name) {
  const words = name.trim().split(/\s+/);
  return words.slice(0, 2).map((word) => [...word][0] ?? "").join("").toUpperCase();
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export function addTile(feed, name, { self = false } = {}) {
  removeTile(feed);
  const tile = element("li", `tile no-picture${self ? " self" : ""}`);
  tile.dataset.feed = feed;
  tile.dataset.participant = name;
  const video = element("video", "");
  video.autoplay = true;
  video.playsInline = true;
  video.muted = self;
  video.setAttribute("aria-label", `Picture of ${name}`);
  tile.append(video, element("div", "initials", initials(name)), element("span", "name", self ? `${name} (you)` : name));
  list.append(tile);
  tiles.set(feed, { tile, video, stream: new MediaStream(), self });
  showLoneliness();
}

export function removeTile(feed) {
  tiles.get(feed)?.tile.remove();
  tiles.delete(feed);
  showLoneliness();
}

export function removeAllTiles() {
  for (const feed of [...tiles.keys()]) {
    removeTile(feed);
  }
  alone.hidden = true;
}

// Adds or removes a track; says whether the browser lets the others be heard.
export async function setTrack(feed, track, on) {
  const entry = tiles.get(feed);
  if (!entry) {
    return true;
  }
  const { tile, video, stream } = entry;
  for (const old of stream.getTracks()) {
    if (old.kind === track.kind) {
      stream.removeTrack(old);
    }
  }
  if (on) {
    stream.addTrack(track);
  }
  tile.classList.toggle("no-picture", stream.getVideoTracks().length === 0);
  video.srcObject = stream;
  return play(video);
}

export function setSpeaking(feed, speaking) {
  tiles.get(feed)?.tile.classList.toggle("speaking", speaking);
}

export function setPicture(feed, shown) {
  tiles.get(feed)?.tile.classList.toggle("no-picture", !shown);
}

export function playAll() {
  return Promise.all([...tiles.values()].map(({ video }) => play(video)));
}

function showLoneliness() {
  alone.hidden = [...tiles.values()].some(({ self }) => !self);
}

async function play(video) {
  try {
    await video.play();
  } catch (error) {
    return error.name !== "NotAllowedError"; // AbortError: another track came meanwhile
  }
  return true;
}
