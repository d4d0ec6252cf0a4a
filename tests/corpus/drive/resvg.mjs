// An SVG renderer, Rust built by wasm-bindgen.

import { bytes, load, report, reportDigest } from './lib.mjs';

const { initWasm, Resvg } = await load('@resvg', 'resvg-wasm', 'index.mjs');
await initWasm(bytes);

const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 150">
  <defs>
    <linearGradient id="sky" x2="0" y2="1">
      <stop stop-color="#024"/><stop offset="1" stop-color="#fa5"/>
    </linearGradient>
    <filter id="soft"><feGaussianBlur stdDeviation="3"/></filter>
    <clipPath id="round"><circle cx="100" cy="75" r="70"/></clipPath>
  </defs>
  <g clip-path="url(#round)">
    <rect width="200" height="150" fill="url(#sky)"/>
    <circle cx="120" cy="90" r="30" fill="#fd0" filter="url(#soft)"/>
    <path d="M0 120 Q50 60 100 120 T200 120 V150 H0 Z" fill="#135" opacity=".8"/>
    <path d="M20 20 C60 80 140 -20 180 60" fill="none" stroke="#fff" stroke-width="4"
          stroke-dasharray="12 5" stroke-linecap="round" transform="rotate(7 100 75)"/>
  </g>
</svg>`;

const resvg = new Resvg(svg, { fitTo: { mode: 'width', value: 320 } });
const image = resvg.render();
report('size', [image.width, image.height]);
reportDigest('pixels', image.pixels);
reportDigest('png', image.asPng());
report('tree', resvg.toString().length);

try {
  new Resvg('<svg><unclosed></svg>');
} catch (error) {
  report('error', String(error));
}
