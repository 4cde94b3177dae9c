// Puts what needs no bundling beside the bundle.
import { copyFile } from "node:fs/promises";

await copyFile("src/index.html", "dist/index.html");
await copyFile("src/style.css", "dist/assets/style.css");
