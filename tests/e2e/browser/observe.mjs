// Run inside the page, and are self-contained, as they are sent there.

// Before the page's own scripts: notes when each video element presents its first frame, in seconds since the
// epoch, so that tests can subtract the time of an INVITE.
export function noteFirstFrames() {
  const noted = new WeakSet();
  const note = (video) => {
    if (noted.has(video)) {
      return;
    }
    noted.add(video);
    video.requestVideoFrameCallback((now) => {
      video.firstFrameAt = (performance.timeOrigin + now) / 1000;
    });
  };
  new MutationObserver(() => document.querySelectorAll("video").forEach(note)).observe(document, {
    childList: true,
    subtree: true,
  });
}

// What a participant sees and hears at this moment.

export async function observe() {
  const memory = (window.__observer ??= {
    audio: new AudioContext(),
    ears: new WeakMap(), // by track: its id is the same again after a new negotiation
    canvas: new OffscreenCanvas(48, 27),
  });
  const round = (number, digits = 1) => Number(number.toFixed(digits));

  function look(video) {
    const { canvas } = memory;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    const cells = Array.from({ length: 9 }, () => [0, 0, 0, 0]);
    for (let pixel = 0; pixel < data.length / 4; pixel += 1) {
      const column = Math.floor((pixel % canvas.width) / (canvas.width / 3));
      const row = Math.floor(Math.floor(pixel / canvas.width) / (canvas.height / 3));
      const cell = cells[row * 3 + column];
      for (let channel = 0; channel < 3; channel += 1) {
        cell[channel] += data[pixel * 4 + channel];
      }
      cell[3] += 1;
    }
    const mean = (some) => {
      const count = some.reduce((sum, cell) => sum + cell[3], 0);
      return [0, 1, 2].map((c) => Math.round(some.reduce((sum, cell) => sum + cell[c], 0) / count));
    };
    return { colour: mean(cells), grid: cells.map((cell) => mean([cell])) };
  }

  function listen(stream) {
    const track = stream?.getAudioTracks()[0];
    if (!track) {
      return null;
    }
    let ear = memory.ears.get(track);
    if (!ear) {
      ear = memory.audio.createAnalyser();
      ear.fftSize = 8192;
      ear.smoothingTimeConstant = 0;
      memory.audio.createMediaStreamSource(new MediaStream([track])).connect(ear);
      memory.ears.set(track, ear);
    }
    const spectrum = new Float32Array(ear.frequencyBinCount);
    ear.getFloatFrequencyData(spectrum);
    const samples = new Float32Array(ear.fftSize);
    ear.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const binHz = memory.audio.sampleRate / ear.fftSize;
    const loudest = spectrum.reduce((best, level, bin) => (level > spectrum[best] ? bin : best), 1);
    // The three strongest peaks: several tones at once are told apart.
    const peaks = [...spectrum.keys()]
      .filter((bin) => bin > 1 && spectrum[bin] > spectrum[bin - 1] && spectrum[bin] >= spectrum[bin + 1])
      .sort((a, b) => spectrum[b] - spectrum[a])
      .slice(0, 3)
      .map((bin) => ({ hz: round(bin * binHz), db: round(spectrum[bin]) }));
    return {
      hz: round(loudest * binHz),
      level_db: power > 0 ? round(10 * Math.log10(power)) : -120,
      peaks,
    };
  }

  async function flow(connection) {
    const stats = [...(await connection.getStats()).values()];
    const byId = new Map(stats.map((entry) => [entry.id, entry]));
    const pair = stats.find((s) => s.type === "candidate-pair" && s.nominated && s.state === "succeeded");
    const streams = stats
      .filter((s) => s.type === "inbound-rtp" || s.type === "outbound-rtp")
      .map((s) => ({
        direction: s.type === "inbound-rtp" ? "in" : "out",
        kind: s.kind,
        codec: byId.get(s.codecId)?.mimeType ?? null,
        packets: s.packetsReceived ?? s.packetsSent ?? 0,
        lost: s.packetsLost ?? 0,
        frames: s.framesDecoded ?? s.framesEncoded ?? 0,
        keyframes: s.keyFramesDecoded ?? s.keyFramesEncoded ?? 0,
        pli: s.pliCount ?? 0,
        width: s.frameWidth ?? 0,
        height: s.frameHeight ?? 0,
      }));
    return {
      ice: connection.iceConnectionState,
      local: byId.get(pair?.localCandidateId)?.candidateType ?? null,
      remote: byId.get(pair?.remoteCandidateId)?.candidateType ?? null,
      remote_address: byId.get(pair?.remoteCandidateId)?.address ?? null,
      streams,
    };
  }

  const others = [];
  for (const tile of document.querySelectorAll("#tiles .tile:not(.self)")) {
    const video = tile.querySelector("video");
    const hasPicture = video.videoWidth > 0 && !tile.classList.contains("no-picture");
    others.push({
      name: tile.dataset.participant,
      speaking: tile.classList.contains("speaking"),
      video: hasPicture
        ? {
            width: video.videoWidth,
            height: video.videoHeight,
            frames: video.getVideoPlaybackQuality().totalVideoFrames,
            first_frame_at: video.firstFrameAt ? round(video.firstFrameAt, 3) : null,
            ...look(video),
          }
        : null,
      audio: listen(video.srcObject),
    });
  }
  const connections = [];
  for (const { name, connection } of window.smd.connections()) {
    connections.push({ name, ...(await flow(connection)) });
  }
  const { state, error, room, waiting = null } = window.smd;
  return { state, error, room, waiting, participants: others, connections };
}
