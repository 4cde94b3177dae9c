// Camera and microphone, and words for what keeps them from working.

const PICTURE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };

const REASONS = {
  NotAllowedError: "This page may not use the camera or the microphone. Allow both in the browser's address bar and reload.",
  NotFoundError: "No camera or microphone was found.",
  NotReadableError: "The camera or the microphone is used by another program.",
  OverconstrainedError: "The camera can't deliver a usable picture.",
};

// media: "all", "audio" or "none"; processing: echo cancellation and the like.
// Gives { tracks, problem }: with a problem the participant goes on with what there is.
export async function capture(media, processing) {
  if (media === "none") {
    return { tracks: [], problem: "" };
  }
  if (!navigator.mediaDevices?.getUserMedia) {
    const problem =
      "You see and hear the others, but they don't see you: browsers give camera and microphone only to " +
      "pages over HTTPS or on this computer (localhost).";
    return { tracks: [], problem };
  }
  const audio = { echoCancellation: processing, noiseSuppression: processing, autoGainControl: processing };
  const attempts = media === "audio" ? [{ audio }] : [{ audio, video: PICTURE }, { audio }, { video: PICTURE }];
  let problem = "";
  for (const constraints of attempts) {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      return { tracks: stream.getTracks(), problem };
    } catch (error) {
      problem ||= REASONS[error.name] ?? `Camera and microphone don't work: ${error.message}`;
    }
  }
  return { tracks: [], problem };
}
