// Two collected checkpoints compared, and one made again: `filo checkpoints diff` and `reproduce`.
#pragma once

#include <string>

#include "workspace/manifest.hpp"
#include "workspace/workspace.hpp"

namespace filo {

// {"a", "b" (digests), "same_weights": true, false or null, "settings": {dotted key: [a, b]} that differ (data sets,
// clip, versions and host among them), "metrics": [{"test_dataset", "evaluate", "metric", "a", "b"}] of evaluations
// that both have: on the same images, with the same settings}. Null is what one has not.
Json checkpoint_difference(const Workspace& workspace, const std::string& a, const std::string& b);
std::string difference_text(const Json& difference);

// An experiment file of the one trial that made and measured the checkpoint, every setting in it as it was, with what
// it needs and the commands as comments. `evaluation`: first digits of the key of the evaluation that is meant, "" for
// the first. Throws Error where the manifest does not tell, UsageError where there is no such evaluation.
std::string experiment_that_reproduces(const Workspace& workspace, const std::string& digest,
                                       const std::string& evaluation);

}  // namespace filo
