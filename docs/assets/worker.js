// Browsers do not start a worker for a page that is opened from a folder; the search then runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    #waiting = [];
    #frame = document.createElement("iframe");
    #ready = false;

    constructor(url) {
      super();
      this.#frame.hidden = true;
      document.documentElement.append(this.#frame);
      const { contentWindow, contentDocument } = this.#frame;
      contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = contentDocument.createElement("script");
      script.src = url;
      script.onload = () => {
        this.#ready = true;
        this.#waiting.forEach((data) => this.postMessage(data));
      };
      contentDocument.head.append(script);
    }

    postMessage(data) {
      if (this.#ready) {
        this.#frame.contentWindow.dispatchEvent(new MessageEvent("message", { data }));
      } else {
        this.#waiting.push(data);
      }
    }
  };
}
