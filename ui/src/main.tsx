import "./lib/locale";
import { render } from "solid-js/web";
import { App } from "./app";
import { platform } from "./platform";
import { createCorral } from "./state/corral";
import "./style/base.css";
import "./style/controls.css";
import "./style/shell.css";
import "./style/parts.css";
import "./style/tables.css";
import "./style/models.css";
import "./style/logs.css";
import "./style/settings.css";
import "./style/health.css";

const corral = createCorral(platform());
render(() => <App corral={corral} />, document.getElementById("app")!);
requestAnimationFrame(() => corral.platform.ready());
