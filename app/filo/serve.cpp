#include "service/serve.hpp"

#include <unistd.h>

#include <filesystem>
#include <iostream>
#include <memory>

#include "app/filo/commands.hpp"
#include "app/filo/executors.hpp"
#include "app/filo/workspace_option.hpp"
#include "app/version.hpp"
#include "base/signals.hpp"

namespace filo {

void add_serve_command(CLI::App& program) {
  add_command(
      program, "serve", "Looks after the workspace's experiments, and shows them by HTTP API and web page",
      [](CLI::App& command) -> Command {
        auto options = std::make_shared<service::ServeOptions>();
        auto workspace = workspace_option(command);
        command.add_option("--listen", options->listen, "ADDRESS:PORT to listen on; port 0 takes any that is free")
            ->capture_default_str();
        command.add_option(
            "--token-file", options->token_file,
            "File with the token that clients must send; made when it is not there (default: WORKSPACE/token)");
        command.add_option("--tls-certificate", options->certificate, "Certificate chain (PEM): serve HTTPS")
            ->check(existing_file());
        command.add_option("--tls-key", options->key, "Private key of the certificate (PEM)")->check(existing_file());
        command.add_option("--allow-host", options->allowed_hosts,
                           "A name that clients may use for this server, as behind a reverse proxy; may be repeated");
        add_number(command, "--max-connections", options->limits.connections, "Connections at a time", std::size_t{8},
                   std::size_t{1'000'000});
        add_number(command, "--grace", options->grace_s,
                   "Seconds that stages on this machine get for a snapshot when stopped", 0.0);
        add_number(command, "--poll", options->poll_s,
                   "Seconds between looks at a cluster's queue while nothing happens (one squeue each)", 0.1, 3600.0);
        return [options, workspace] {
          service::parse_listen(options->listen);  // refused before a workspace is made
          install_stop_handlers();
          options->version = FILO_VERSION;
          options->show_token = isatty(STDOUT_FILENO) != 0;
          options->stop = [] { return stop_requested() != 0; };
          const bool makes_workspace = !std::filesystem::exists(*workspace);
          const Workspace served(*workspace);
          if (makes_workspace) std::cout << "made the workspace " << served.root().string() << "\n";
          options->executors = executor_factory(served, true);
          service::serve(served, *options, std::cout);
          return 0;
        };
      });
}

}  // namespace filo
