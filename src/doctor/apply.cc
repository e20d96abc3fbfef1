#include "doctor/apply.h"

#include <algorithm>

#include <fmt/format.h>

#include "doctor/diff.h"
#include "doctor/manifest.h"
#include "doctor/system_tree.h"

namespace yoke::doctor {
namespace {

using File = SystemTree::File;

bool is_real(const ApplyOptions& options) { return options.root == "/"; }

Result<void> need_root(const ApplyOptions& options, std::string_view command) {
  if (!is_real(options) || options.user == 0) return {};
  return fail(kDoctorNeedsRoot, "Only root may change these files.",
              fmt::format("Run `sudo {}`.", command));
}

std::optional<std::string> content_of(const std::optional<File>& file) {
  return file ? std::optional(file->content) : std::nullopt;
}

bool is_original(const ChangedFile& file, const std::optional<File>& now) {
  return content_of(now) == content_of(file.original);
}

// What is there now is neither what Yoke wrote nor what was there before.
bool is_foreign(const ChangedFile& file, const std::optional<File>& now) {
  if (is_original(file, now)) return false;
  if (!now) return true;
  return std::find(file.written.begin(), file.written.end(), now->content) == file.written.end();
}

tl::unexpected<Error> foreign_error(const std::vector<std::string>& paths) {
  return fail(
      kDoctorFileChanged,
      fmt::format("Somebody changed {} after `yoke doctor` wrote it.", fmt::join(paths, " and ")),
      "With --force it is overwritten, and their version kept in "
      "/var/lib/yoke/doctor/kept.");
}

Result<void> keep_copy(const SystemTree& tree, const std::string& path,
                       const std::optional<File>& file, const ApplyOptions& options) {
  if (!file) return {};
  std::string name = path.substr(1);
  std::replace(name.begin(), name.end(), '/', '_');
  // An earlier copy is not overwritten.
  std::string place;
  for (int number = 1;; ++number) {
    place = fmt::format("{}/kept/{}.{}", kDoctorDirectory, name, number);
    YOKE_TRY(const std::optional<File> taken, tree.read(place));
    if (!taken || taken->content == file->content) break;
  }
  YOKE_CHECK(tree.write(place, *file));
  options.print(fmt::format("{} as it was is kept as {}.\n", path, place));
  return {};
}

void announce(const ApplyOptions& options, std::string_view path) {
  if (options.before_change) options.before_change(path);
}

Result<void> run_commands(const std::vector<Command>& commands, const ApplyOptions& options) {
  std::vector<std::string> failed;
  std::string reason;
  for (const Command& command : commands) {
    const std::string text = to_string(command);
    options.print(fmt::format("{}: {}\n", options.run ? "Running" : "Would run", text));
    if (!options.run) continue;
    if (auto done = options.run(command); !done) {
      failed.push_back(fmt::format("`{}`", text));
      if (reason.empty()) reason = done.error().message;
    }
  }
  if (failed.empty()) return {};
  return fail(kDoctorCommandFailed,
              fmt::format("The files are as they should be, but {} failed: {}",
                          fmt::join(failed, " and "), reason),
              "Run it by hand before you reboot.");
}

// Compares the files with what the plan and the manifest know of them, and adds to the manifest
// what this plan is going to do.
Result<void> prepare(const SystemTree& tree, const FixPlan& plan, const ApplyOptions& options,
                     Manifest& manifest) {
  std::vector<std::string> foreign;
  const auto make = [&](std::string_view path) -> Result<void> {
    YOKE_TRY(const std::vector<std::string> missing, tree.missing_directories(path));
    auto& made = manifest.made_directories;
    for (const std::string& directory : missing) {
      if (std::find(made.begin(), made.end(), directory) == made.end()) made.push_back(directory);
    }
    return {};
  };
  for (const FileChange& change : plan.changes) {
    YOKE_TRY(const std::optional<File> now, tree.read(change.path));
    if (content_of(now) != change.before) {
      return fail(kDoctorFileChanged, fmt::format("{} was changed just now.", change.path),
                  "Run `yoke doctor --fix` again.");
    }
    ChangedFile* known = manifest.find(change.path);
    if (known == nullptr) {
      manifest.files.push_back({change.path, now, {change.after}});
    } else {
      if (is_foreign(*known, now)) foreign.push_back(change.path);
      known->written.push_back(change.after);
    }
    YOKE_CHECK(make(change.path));
  }
  if (!foreign.empty() && !options.force) return foreign_error(foreign);
  for (const std::string& path : foreign) {
    YOKE_TRY(const std::optional<File> now, tree.read(path));
    YOKE_CHECK(keep_copy(tree, path, now, options));
  }
  return {};
}

// Whose file it was stays its owner.
File changed_file(const ChangedFile& known, const FileChange& change) {
  File file{change.after, change.mode};
  if (known.original) {
    file.mode = known.original->mode;
    file.uid = known.original->uid;
    file.gid = known.original->gid;
  }
  return file;
}

Result<void> write_changes(const SystemTree& tree, const FixPlan& plan, const ApplyOptions& options,
                           Manifest& manifest) {
  announce(options, kManifestPath);
  YOKE_CHECK(save_manifest(tree, manifest));
  for (const FileChange& change : plan.changes) {
    announce(options, change.path);
    YOKE_CHECK(tree.write(change.path, changed_file(*manifest.find(change.path), change)));
  }
  for (const FileChange& change : plan.changes) {
    manifest.find(change.path)->written = {change.after};
  }
  announce(options, kManifestPath);
  return save_manifest(tree, manifest);
}

struct Restore {
  ChangedFile file;
  std::optional<File> now;
  bool foreign = false;
};

Result<std::vector<Restore>> what_to_restore(const SystemTree& tree, const Manifest& manifest) {
  std::vector<Restore> restores;
  for (const ChangedFile& file : manifest.files) {
    YOKE_TRY(std::optional<File> now, tree.read(file.path));
    if (is_original(file, now)) continue;
    const bool foreign = is_foreign(file, now);
    restores.push_back({file, std::move(now), foreign});
  }
  return restores;
}

Result<void> restore(const SystemTree& tree, const Restore& restore, const ApplyOptions& options) {
  const std::string& path = restore.file.path;
  if (restore.foreign) YOKE_CHECK(keep_copy(tree, path, restore.now, options));
  announce(options, path);
  return restore.file.original ? tree.write(path, *restore.file.original) : tree.remove(path);
}

// Directories in /etc go while the manifest still names them, its own ones after it: also those
// that a crash left before there was a manifest.
Result<void> clean_up(const SystemTree& tree, const Manifest& manifest,
                      const ApplyOptions& options) {
  for (const ChangedFile& file : manifest.files) {
    YOKE_CHECK(tree.remove(SystemTree::unfinished(file.path)));
  }
  std::vector<std::string> own{std::string(kDoctorDirectory), "/var/lib/yoke"};
  const auto& made = manifest.made_directories;
  for (auto directory = made.rbegin(); directory != made.rend(); ++directory) {
    if (kDoctorDirectory.starts_with(*directory)) {
      own.push_back(*directory);
    } else {
      YOKE_CHECK(tree.remove_empty_directory(*directory));
    }
  }
  announce(options, kManifestPath);
  YOKE_CHECK(tree.remove(SystemTree::unfinished(kManifestPath)));
  YOKE_CHECK(tree.remove(kManifestPath));
  for (const std::string& directory : own) YOKE_CHECK(tree.remove_empty_directory(directory));
  return {};
}

}  // namespace

Result<Outcome> apply(const FixPlan& plan, const ApplyOptions& options) {
  if (plan.changes.empty()) return Outcome::kNothingToDo;
  YOKE_CHECK(need_root(options, "yoke doctor --fix"));
  YOKE_TRY(const SystemTree tree, SystemTree::open(options.root));
  for (const FileChange& change : plan.changes) {
    options.print(unified_diff(change.path, change.before, change.after));
  }
  for (const Command& command : plan.commands) {
    options.print(fmt::format("Then: {}\n", to_string(command)));
  }
  YOKE_TRY(const bool go_on, options.confirm("Make these changes?"));
  if (!go_on) return Outcome::kDeclined;
  // Before the lock makes this directory.
  YOKE_TRY(std::vector<std::string> made, tree.missing_directories(kManifestPath));
  YOKE_TRY(const UniqueFd lock, tree.lock(kDoctorDirectory));
  YOKE_TRY(Manifest manifest, load_manifest(tree));
  manifest.made_directories.insert(manifest.made_directories.end(), made.begin(), made.end());
  YOKE_CHECK(prepare(tree, plan, options, manifest));
  YOKE_CHECK(write_changes(tree, plan, options, manifest));
  YOKE_CHECK(run_commands(plan.commands, options));
  return Outcome::kDone;
}

Result<Outcome> undo(const Distribution& distribution, const ApplyOptions& options) {
  YOKE_CHECK(need_root(options, "yoke doctor --undo"));
  YOKE_TRY(const SystemTree tree, SystemTree::open(options.root));
  YOKE_TRY(const std::vector<std::string> missing, tree.missing_directories(kManifestPath));
  if (!missing.empty()) return Outcome::kNothingToDo;
  YOKE_TRY(const UniqueFd lock, tree.lock(kDoctorDirectory));
  YOKE_TRY(const Manifest manifest, load_manifest(tree));
  YOKE_TRY(const std::vector<Restore> restores, what_to_restore(tree, manifest));
  std::vector<std::string> foreign;
  for (const Restore& entry : restores) {
    if (entry.foreign) foreign.push_back(entry.file.path);
    options.print(
        unified_diff(entry.file.path, content_of(entry.now), content_of(entry.file.original)));
  }
  if (!foreign.empty() && !options.force) return foreign_error(foreign);
  if (!restores.empty()) {
    YOKE_TRY(const bool go_on, options.confirm("Take these changes back?"));
    if (!go_on) return Outcome::kDeclined;
  }
  for (const Restore& entry : restores) YOKE_CHECK(restore(tree, entry, options));
  // For all files of the manifest: a run before this one may have ended between files and commands.
  std::vector<std::string> paths;
  for (const ChangedFile& file : manifest.files) paths.push_back(file.path);
  const Result<void> ran = run_commands(commands_after(paths, distribution, true), options);
  YOKE_CHECK(clean_up(tree, manifest, options));
  YOKE_CHECK(ran);
  return manifest.files.empty() ? Outcome::kNothingToDo : Outcome::kDone;
}

}  // namespace yoke::doctor
