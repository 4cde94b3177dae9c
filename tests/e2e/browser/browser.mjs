// A scriptable participant of the demo conference: headless Chromium on the page, one report a second.
//
//   node browser.mjs --url http://ADDRESS/ROOM --name NAME --seconds N [--json] [--screenshot PNG]
//       [--tone HZ | --audio WAV] [--video Y4M|MJPEG] [--media all|audio|none] [--chromium PATH]
//       [--until-frames N] [--until-participants N] [--until-hz HZ]
//
// With --until-... it ends, successfully, in the first second in which all of them are met, and exits 1 when
// they are not within --seconds. Commands on standard input, one a line: "screenshot PNG", "quit", and the
// buttons of the page by their names. SIGTERM ends it as "quit" does.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { noteFirstFrames, observe } from "./observe.mjs";

const { values: options } = parseArgs({
  options: {
    url: { type: "string" },
    name: { type: "string", default: "Browser" },
    seconds: { type: "string", default: "30" },
    tone: { type: "string" },
    audio: { type: "string" },
    video: { type: "string" },
    media: { type: "string", default: "all" },
    screenshot: { type: "string" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    json: { type: "boolean", default: false },
    "until-frames": { type: "string" },
    "until-participants": { type: "string" },
    "until-hz": { type: "string" },
  },
});

function report(line) {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const others = (line.participants ?? []).map(({ name, video, audio }) => {
    const picture = video ? `${video.width}x${video.height} ${video.frames} frames rgb(${video.colour})` : "no picture";
    const sound = audio ? `${audio.hz} Hz ${audio.level_db} dB` : "no sound";
    return `${name}: ${picture}, ${sound}`;
  });
  process.stdout.write(`${line.event} ${line.time_s} s ${line.state ?? ""} ${line.error ?? ""} ${others.join(" | ")}\n`);
}

// A mono 48 kHz 16-bit WAV of a whole number of periods, so that it loops without a click.
function toneWav(hz) {
  const rate = 48_000;
  const samples = rate * 2;
  const periods = Math.round((hz * samples) / rate);
  const wav = Buffer.alloc(44 + samples * 2);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(36 + samples * 2, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  wav.writeUInt16LE(1, 20);
  wav.writeUInt16LE(1, 22);
  wav.writeUInt32LE(rate, 24);
  wav.writeUInt32LE(rate * 2, 28);
  wav.writeUInt16LE(2, 32);
  wav.writeUInt16LE(16, 34);
  wav.write("data", 36);
  wav.writeUInt32LE(samples * 2, 40);
  for (let n = 0; n < samples; n += 1) {
    wav.writeInt16LE(Math.round(9_000 * Math.sin((2 * Math.PI * periods * n) / samples)), 44 + n * 2);
  }
  return wav;
}

function met(seen) {
  const videos = seen.participants.filter(({ video }) => video);
  const checks = [];
  if (options["until-participants"]) {
    checks.push(seen.participants.length >= Number(options["until-participants"]));
  }
  if (options["until-frames"]) {
    checks.push(videos.some(({ video }) => video.frames >= Number(options["until-frames"])));
  }
  if (options["until-hz"]) {
    const wanted = Number(options["until-hz"]);
    const near = ({ hz, db }) => Math.abs(hz - wanted) <= 15 && db > -60;
    checks.push(seen.participants.some(({ audio }) => audio?.peaks.some(near)));
  }
  return checks.length > 0 && checks.every(Boolean);
}

async function run() {
  if (!options.url) {
    throw new Error("--url is missing");
  }
  const url = new URL(options.url);
  for (const [key, value] of [["name", options.name], ["media", options.media], ["processing", "off"]]) {
    if (!url.searchParams.has(key)) {
      url.searchParams.set(key, value);
    }
  }
  const directory = await mkdtemp(join(tmpdir(), "browser-"));
  const args = [
    "--no-sandbox",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    `--unsafely-treat-insecure-origin-as-secure=${url.origin}`,
  ];
  if (options.tone) {
    await writeFile(join(directory, "tone.wav"), toneWav(Number(options.tone)));
  }
  if (options.tone || options.audio) {
    args.push(`--use-file-for-fake-audio-capture=${options.audio ?? join(directory, "tone.wav")}`);
  }
  if (options.video) {
    args.push(`--use-file-for-fake-video-capture=${options.video}`);
  }
  const started = performance.now();
  const time = () => Number(((performance.now() - started) / 1000).toFixed(2));
  const browser = await chromium.launch({ executablePath: options.chromium, headless: true, args });
  try {
    return await participate(browser, url, time);
  } finally {
    await browser.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function participate(browser, url, time) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 800 } });
  const page = await context.newPage();
  await page.addInitScript(noteFirstFrames);
  page.on("pageerror", (error) => report({ event: "pageerror", time_s: time(), error: error.message }));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") {
      report({ event: "console", time_s: time(), error: message.text() });
    }
  });
  await page.goto(url.href);
  let over = false;
  let wake = () => {};
  const quit = () => {
    over = true;
    wake();
  };
  process.once("SIGTERM", quit);
  const commands = createInterface({ input: process.stdin });
  commands.on("line", async (line) => {
    const [verb, argument] = line.trim().split(/\s+/, 2);
    if (verb === "quit") {
      quit();
    } else if (verb === "screenshot") {
      await page.screenshot({ path: argument });
      report({ event: "screenshot", time_s: time(), path: argument });
    } else if (/^[a-z]+$/.test(verb)) {
      await page.click(`#${verb}`);
    }
  });
  const until = Object.keys(options).some((key) => key.startsWith("until-"));
  let success = !until;
  while (!over && time() < Number(options.seconds)) {
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, 1000);
    });
    const seen = await page.evaluate(observe);
    report({ event: "second", time_s: time(), ...seen });
    if (until && met(seen)) {
      success = true;
      break;
    }
  }
  commands.close();
  process.stdin.unref?.();
  if (options.screenshot) {
    await page.screenshot({ path: options.screenshot });
  }
  await page.evaluate(() => document.getElementById("leave").click());
  return success ? 0 : 1;
}

run().then(
  (code) => process.exit(code),
  (error) => {
    process.stderr.write(`browser: ${error.message}\n`);
    process.exit(2);
  },
);
