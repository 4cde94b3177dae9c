// One stay in a Janus video room: a publisher handle, and one subscriber handle for each other participant.

import Janus from "janus-gateway";
import adapter from "webrtc-adapter";

const PLUGIN = "janus.plugin.videoroom";
const NO_SUCH_ROOM = 426;
const ROOM_EXISTS = 427;

const ready = new Promise((resolve) => {
  Janus.init({ debug: false, dependencies: Janus.useDefaultDependencies({ adapter }), callback: resolve });
});

function randomText() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// As the gateways make rooms: H.264 only, so that pictures pass a gateway unchanged; the secret is thrown away.
function createRequest(room) {
  return {
    request: "create",
    room,
    description: room,
    permanent: false,
    is_private: true,
    secret: randomText(),
    publishers: 64,
    bitrate: 2_000_000,
    fir_freq: 0,
    audiocodec: "opus",
    videocodec: "h264",
    h264_profile: "42e01f",
    opus_fec: true,
    audiolevel_ext: true,
    audiolevel_event: true,
    audio_active_packets: 25,
    audio_level_average: 55,
    notify_joining: false,
  };
}

// on: { arrived(feed, name), left(feed), track(feed, track, on), speaking(feed, yes), joined(), ended(reason) }
export class Room {
  constructor(server, room, name, tracks, on) {
    Object.assign(this, { server, room, name, tracks, on });
    this.remotes = new Map();
    this.own = `web-${randomText()}`;
    this.over = false;
  }

  async enter() {
    await ready;
    if (this.over) {
      return;
    }
    this.janus = new Janus({
      server: this.server,
      success: () => this.#attachPublisher(),
      error: (cause) => this.#end(`The conference server can't be reached (${cause}).`),
      destroyed: () => this.#end("The conference server has ended the session."),
    });
  }

  leave() {
    this.over = true;
    this.janus?.destroy({ unload: false, cleanupHandles: true });
  }

  // [{ name, feed, connection }] of all peer connections; name is null for one's own.
  connections() {
    const all = [{ name: null, feed: this.own, connection: this.publisher?.webrtcStuff.pc }];
    for (const [feed, { name, handle }] of this.remotes) {
      all.push({ name, feed, connection: handle?.webrtcStuff.pc });
    }
    return all.filter(({ connection }) => connection);
  }

  #end(reason) {
    if (!this.over) {
      this.over = true;
      this.on.ended(reason);
      this.janus?.destroy({ unload: false, cleanupHandles: true });
    }
  }

  #attachPublisher() {
    this.janus.attach({
      plugin: PLUGIN,
      success: (handle) => {
        this.publisher = handle;
        this.#join();
      },
      error: (cause) => this.#end(`The conference server has no video rooms (${cause}).`),
      webrtcState: (up, reason) => {
        if (!up && reason && !this.over) {
          this.#end(`The connection for camera and microphone was lost (${reason}).`);
        }
      },
      onmessage: (message, jsep) => this.#onRoomMessage(message, jsep),
    });
  }

  #join() {
    const message = { request: "join", ptype: "publisher", room: this.room, id: this.own, display: this.name };
    this.publisher.send({ message });
  }

  #onRoomMessage(message, jsep) {
    const feed = message.id;
    switch (message.videoroom) {
      case "joined":
        this.on.joined();
        if (this.tracks.length > 0) {
          this.#publish();
        }
        break;
      case "talking":
      case "stopped-talking":
        this.on.speaking(feed, message.videoroom === "talking");
        break;
      case "destroyed":
        this.#end("The room was closed.");
        break;
      default:
        this.#onError(message);
    }
    for (const publisher of message.publishers ?? []) {
      this.#subscribe(publisher);
    }
    const gone = message.unpublished ?? message.leaving ?? message.kicked;
    if (gone === "ok" && message.reason === "kicked") {
      this.#end("You were removed from the room.");
    } else if (gone && gone !== "ok") {
      this.#unsubscribe(gone);
    }
    if (jsep) {
      this.publisher.handleRemoteJsep({ jsep });
    }
  }

  #onError({ error_code: code, error }) {
    if (code === NO_SUCH_ROOM) {
      this.publisher.send({
        message: createRequest(this.room),
        success: (reply) => {
          if (reply.error_code && reply.error_code !== ROOM_EXISTS) {
            this.#end(`The room can't be made: ${reply.error}.`);
          } else {
            this.#join();
          }
        },
      });
    } else if (code) {
      this.#end(`The conference server refused: ${error}.`);
    }
  }

  #publish() {
    this.publisher.createOffer({
      tracks: this.tracks.map((track) => ({ type: track.kind, capture: track, recv: false })),
      success: (jsep) => this.publisher.send({ message: { request: "publish" }, jsep }),
      error: (cause) => this.#end(`The browser can't send: ${cause.message ?? cause}.`),
    });
  }

  #subscribe({ id: feed, display = "", talking = false }) {
    if (this.remotes.has(feed)) {
      this.#unsubscribe(feed);
    }
    const remote = { name: display, handle: null };
    this.remotes.set(feed, remote);
    this.on.arrived(feed, display);
    this.on.speaking(feed, talking);
    this.janus.attach({
      plugin: PLUGIN,
      success: (handle) => {
        if (this.remotes.get(feed) !== remote) {
          handle.detach();
          return;
        }
        remote.handle = handle;
        handle.send({ message: { request: "join", ptype: "subscriber", room: this.room, streams: [{ feed }] } });
      },
      error: (cause) => console.warn("no subscription", display, cause),
      onmessage: (message, jsep) => {
        if (message.error_code) {
          console.warn("no subscription", display, message.error);
        }
        if (jsep) {
          remote.handle.createAnswer({
            jsep,
            success: (answer) => remote.handle.send({ message: { request: "start" }, jsep: answer }),
            error: (cause) => console.warn("no answer", display, cause),
          });
        }
      },
      onremotetrack: (track, mid, on) => this.on.track(feed, track, on),
    });
  }

  #unsubscribe(feed) {
    const remote = this.remotes.get(feed);
    this.remotes.delete(feed);
    remote?.handle?.detach();
    this.on.left(feed);
  }
}
