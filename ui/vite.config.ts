import solid from "vite-plugin-solid";
import { defineConfig } from "vitest/config";

// `npm run dev` shows the sources against a Corral that runs: CORRAL_MANAGEMENT is its management address.
const management = `http://${process.env.CORRAL_MANAGEMENT ?? "127.0.0.1:8081"}`;
const routes =
  "^/(status|models|start|stop|switch|sessions|usage|history|events|logs|settings|catalog|doctor|autostart|live|gpu)";

export default defineConfig({
  base: "./",
  plugins: [solid()],
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      [routes]: {
        target: management,
        changeOrigin: true,
        // Corral refuses foreign origins, and the development server is one.
        configure: (proxy) => proxy.on("proxyReq", (request) => request.removeHeader("origin")),
      },
    },
  },
  test: { include: ["tests/unit/**/*.test.ts"], environment: "node" },
});
