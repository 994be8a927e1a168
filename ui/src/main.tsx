import { render } from "solid-js/web";
import { App } from "./app";
import { platform } from "./platform";
import { createCorral } from "./state/corral";
import "./style/base.css";
import "./style/shell.css";
import "./style/views.css";

const corral = createCorral(platform());
render(() => <App corral={corral} />, document.getElementById("app")!);
requestAnimationFrame(() => corral.platform.ready());
